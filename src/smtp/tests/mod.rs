mod binding;
mod command;
mod data;
mod fake;
mod session;
