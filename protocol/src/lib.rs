//! Wire types and codecs of Tickgate: no runtime, no clock, no I/O
