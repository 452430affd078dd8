//! Renders a redirect's `location`.
