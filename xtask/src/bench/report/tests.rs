//! That the page and its plots say what was found.
