//! The client that tests, `watch` and small tools use: one session as it comes.

pub use tickgate_client::connection::{
    ClientError, ConnectOptions as ClientOptions, Connection as Client, Frame, Incoming,
};
