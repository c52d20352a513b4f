//! A lab in which several load balancers take the edge's place in turn.

use std::path::Path;

use anyhow::{Result, ensure};

use crate::lab::{
    Lab,
    edge::Edge,
    tool,
    topology::{Backend, EDGE, EDGE_V4, EDGE_V6, vips},
};

impl Lab {
    /// Installs this project's load balancer on the edge, and starts the daemon.
    pub fn install_edge(&mut self, edge_ctl: &Path, configuration: &str) -> Result<()> {
        ensure!(self.edge.is_none(), "there is a load balancer already");
        self.edge = Some(Edge::new(edge_ctl, &self.dir.0.join(EDGE), &self.bpffs.path().join(EDGE), configuration)?);
        self.start_daemon()
    }

    /// Removes the load balancer: the daemon, and the program that would otherwise go on.
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

    /// Attaches the decapsulation on every backend, with additional options.
    pub fn decapsulate_with(&self, edge_ctl: &Path, more: &[&str]) -> Result<()> {
        let edges = [EDGE_V4.to_string(), EDGE_V6.to_string()];
        let vips: Vec<_> = vips().iter().map(ToString::to_string).collect();
        let from = edges.iter().flat_map(|edge| ["--from", edge]);
        let args: Vec<_> = from.chain(vips.iter().flat_map(|vip| ["--vip", vip])).chain(more.iter().copied()).collect();
        Backend::all().try_for_each(|backend| self.decap(edge_ctl, backend, &args))
    }

    /// Detaches the decapsulation: each packet that an interface receives would pay for its XDP program.
    pub fn stop_decapsulating(&self, edge_ctl: &Path) -> Result<()> {
        Backend::all().try_for_each(|backend| self.decap(edge_ctl, backend, &["--detach"]))
    }

    /// Resets every cable to the kernel's defaults: no programs on the far ends of the edge's cables, and checksums
    /// left to hardware that does not exist. XDP programs that forward do not work on such cables; all else is faster.
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
