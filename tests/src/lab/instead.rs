//! A lab in which one load balancer after the other has the edge's place.

use std::path::Path;

use anyhow::{Result, ensure};

use crate::lab::{
    Lab,
    edge::Edge,
    tool,
    topology::{Backend, EDGE, EDGE_V4, EDGE_V6, vips},
};

impl Lab {
    /// Puts this project's load balancer in its place, and starts the daemon.
    pub fn install_edge(&mut self, edge_ctl: &Path, configuration: &str) -> Result<()> {
        ensure!(self.edge.is_none(), "there is a load balancer already");
        self.edge = Some(Edge::new(edge_ctl, &self.dir.0.join(EDGE), &self.bpffs.path().join(EDGE), configuration)?);
        self.start_daemon()
    }

    /// Takes it away: the daemon, and the program that would serve on without it.
    pub fn remove_edge(&mut self) -> Result<()> {
        self.stop_daemon()?;
        self.ctl(&["detach"])?;
        self.edge = None;
        Ok(())
    }

    /// Attaches the decapsulation on every backend.
    pub fn decapsulate(&self, edge_ctl: &Path) -> Result<()> {
        self.decapsulate_with(edge_ctl, &[])
    }

    /// The same with more options.
    pub fn decapsulate_with(&self, edge_ctl: &Path, more: &[&str]) -> Result<()> {
        let edges = [EDGE_V4.to_string(), EDGE_V6.to_string()];
        let vips: Vec<_> = vips().iter().map(ToString::to_string).collect();
        let from = edges.iter().flat_map(|edge| ["--from", edge]);
        let args: Vec<_> = from.chain(vips.iter().flat_map(|vip| ["--vip", vip])).chain(more.iter().copied()).collect();
        Backend::all().try_for_each(|backend| self.decap(edge_ctl, backend, &args))
    }

    /// Takes it off again: whatever comes in by an interface with an XDP program pays for that.
    pub fn stop_decapsulating(&self, edge_ctl: &Path) -> Result<()> {
        Backend::all().try_for_each(|backend| self.decap(edge_ctl, backend, &["--detach"]))
    }

    /// From here on every cable is as the kernel makes it: no programs on the far ends of the edge's cables, and
    /// checksums left to hardware that isn't there. XDP programs that forward do not work on such cables; all else is
    /// faster.
    pub fn without_xdp(&mut self) -> Result<()> {
        self.fabric.without_xdp()
    }

    fn decap(&self, edge_ctl: &Path, backend: Backend, args: &[&str]) -> Result<()> {
        let name = backend.to_string();
        let mut command = self.netns(&name).command(edge_ctl)?;
        command.env("EDGE_PIN_DIR", self.bpffs.path().join(&name)).env("EDGE_RUN_DIR", self.dir.0.join(&name));
        tool::run(command.args(["decap", "--interface", "wan"]).args(args))?;
        Ok(())
    }
}
