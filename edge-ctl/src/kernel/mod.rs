//! The kernel side: object, pins, maps, links. The only module that writes a map.
