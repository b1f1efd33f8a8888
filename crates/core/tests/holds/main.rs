//! Who has a shared plugin: the table, the rules of the contract one by one, random histories, and the search of all orders.

mod properties;
mod rules;
mod search;
mod support;
mod table;
