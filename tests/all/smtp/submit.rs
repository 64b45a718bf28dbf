//! `msgtrk submit` and `msgtrk sent`.
