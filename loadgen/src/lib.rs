//! Open-loop load generator and watcher for Tickgate
