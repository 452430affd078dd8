//! ClientHellos whole, torn and wrong.
