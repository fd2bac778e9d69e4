"""The same work as others would do it, as fast as they would: what ours is measured against."""
