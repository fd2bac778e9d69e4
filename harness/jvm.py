"""Options of JVMs that tests and the emulated cluster start."""

from __future__ import annotations

# For a JVM of some minutes: compiling well and collecting garbage in parallel cost more than they gain, and verifying
# the bytecode of Spark's classes is a sixth of the CPU until its first merge.
SHORT_LIVED = (
    "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m -XX:+UseSerialGC "
    "-XX:+UnlockDiagnosticVMOptions -XX:-BytecodeVerificationRemote"
)
