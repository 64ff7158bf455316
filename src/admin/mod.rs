//! The admin door: health now, metrics and console later.
