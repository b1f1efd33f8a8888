//! The addon: Ally's plugin daemons, for Node.js. Everything that names napi is in [`binding`]; what it calls is in the crate
//! `ally-core`. ARCHITECTURE.md has the whole house.

mod binding;
