//! Tests of the daemon's pieces together, in one process and without waiting: sources, live loop, committer, index.

mod clock;
mod lines;
mod model;
mod run;
mod traps;
