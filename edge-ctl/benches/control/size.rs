//! Configurations as text, of any size.

use std::fmt::{self, Write as _};

use edge_ctl::bench::Config;

/// Services that all have the same backends, in one pool. Every other one is a UDP service, the second among them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) services: u32,
    /// Up to 60,000.
    pub(crate) backends: u32,
    pub(crate) slots: u32,
}

impl Size {
    /// VIP and port of the first service.
    pub(crate) const VIP: ([u8; 4], u16) = ([198, 18, 0, 1], 80);

    /// The configuration, whose first backend has `weight` where all others have 100.
    pub(crate) fn text(self, weight: u32) -> String {
        self.write(weight).expect("a string takes everything")
    }

    fn write(self, weight: u32) -> Result<String, fmt::Error> {
        let Self { services, backends, slots } = self;
        let mut text = String::new();
        writeln!(text, "hash_key = \"000102030405060708090a0b0c0d0e0f\"\nslots = {slots}")?;
        writeln!(text, "[limits]\nservices = {services}\npools = 2\nbackends = {backends}")?;
        writeln!(text, "[[interface]]\nname = \"lo\"")?;
        writeln!(text, "[[pool]]\nname = \"all\"\nprobe = {{ type = \"tcp\", port = 80 }}\nbackend = [")?;
        for n in 0..backends {
            let weight = if n == 0 { weight } else { 100 };
            let address = format!("10.1.{}.{}", n / 250, n % 250 + 1);
            writeln!(text, "    {{ name = \"backend-{n}\", address = \"{address}\", weight = {weight} }},")?;
        }
        writeln!(text, "]")?;
        for n in 0..services {
            let protocol = if n % 2 == 0 { "tcp" } else { "udp" };
            writeln!(
                text,
                "[[service]]\nname = \"service-{n}\"\nvips = [\"198.18.{}.{}\"]\nports = [\"80/{protocol}\"]\n\
                 mode = \"dsr\"\npools = [\"all\"]",
                n / 250,
                n % 250 + 1,
            )?;
        }
        Ok(text)
    }

    pub(crate) fn config(self, weight: u32) -> Config {
        Config::parse(&self.text(weight)).expect("it is a good configuration")
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { services, backends, slots } = *self;
        write!(f, "{} services, {} backends, {} slots", thousands(services), thousands(backends), thousands(slots))
    }
}

/// A number as people write it: `65,536`.
pub(crate) fn thousands(number: u32) -> String {
    if number < 1000 { number.to_string() } else { format!("{},{:03}", thousands(number / 1000), number % 1000) }
}
