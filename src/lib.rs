//! The Node.js addon. [`binding`] translates between JavaScript and the crate `ally-core`, and is the only user of napi.
//! ARCHITECTURE.md describes all crates.

mod binding;
