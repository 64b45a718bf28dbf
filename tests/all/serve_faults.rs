//! What goes wrong around a daemon: it says so, goes on with everything else, and recovers by itself.
