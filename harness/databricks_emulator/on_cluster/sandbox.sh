# A root of its own for a process: everything of this machine except what is hidden, and real /dbfs and /Volumes.
# Run by `unshare --map-root-user --mount sh sandbox.sh ROOT DBFS VOLUMES HIDDEN... -- COMMAND...`; DBFS - for none.
set -eu
root=$1 dbfs=$2 volumes=$3
shift 3
mount -t tmpfs tmpfs "$root"
mkdir "$root/Volumes"
[ "$dbfs" = - ] || mkdir "$root/dbfs"
for path in /*; do
    [ -e "$root$path" ] && continue
    if [ -L "$path" ]; then
        cp -P "$path" "$root$path"
    elif [ -d "$path" ]; then
        mkdir "$root$path"
        mount --rbind "$path" "$root$path"
    fi
done
[ "$dbfs" = - ] || mount --bind "$dbfs" "$root/dbfs"
mount --bind "$volumes" "$root/Volumes"
while [ "$1" != -- ]; do
    mount -t tmpfs tmpfs "$root$1"
    shift
done
shift
exec chroot "$root" "$@"
