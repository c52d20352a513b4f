//! `edge-ctl decap`: our own decapsulation program on a tunnel backend.
