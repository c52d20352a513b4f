//! What packet tests and labs are made of.

pub mod packet;
pub mod world;

pub mod both;
pub mod kernel;
pub mod namespace;

pub mod cases;
