//! The programs that boot a kernel, and programs that guests run and the system lacks.

use std::path::PathBuf;

use anyhow::Result;
use xtask::{cargo, setup, unpacked};

/// Paths of the programs.
#[derive(Clone, Debug)]
pub(super) struct Tools {
    pub(super) qemu: PathBuf,
    pub(super) virtiofsd: PathBuf,
    pub(super) busybox: PathBuf,
    pub(super) modprobe: PathBuf,
    pub(super) depmod: PathBuf,
    /// User-space tools of load balancers in the kernel.
    pub(super) ipvsadm: PathBuf,
    pub(super) nft: PathBuf,
    /// Directories of qemu's firmware.
    pub(super) firmware: Vec<PathBuf>,
}

impl Tools {
    /// Fetches missing programs. Nothing is installed: qemu's package would remove others.
    pub(super) fn ensure() -> Result<Self> {
        setup::can_boot_kernels()?;
        let machine = |file| unpacked::ensure_whole("qemu", &["qemu-system-x86"], file);
        let qemu = machine("usr/bin/qemu-system-x86_64")?;
        let virtiofsd = machine("usr/lib/qemu/virtiofsd")?;
        let guest = |file| unpacked::ensure_whole("guest", &["kmod", "ipvsadm", "nftables"], file);
        let tools = cargo::tools();
        let firmware = [tools.join("qemu/usr"), "/usr".into()];
        Ok(Self {
            qemu,
            virtiofsd,
            busybox: unpacked::ensure("busybox", &["busybox-static"], "bin/busybox")?,
            modprobe: guest("sbin/modprobe")?,
            depmod: guest("sbin/depmod")?,
            ipvsadm: guest("sbin/ipvsadm")?,
            nft: guest("usr/sbin/nft")?,
            firmware: firmware
                .iter()
                .flat_map(|usr| ["share/qemu", "share/seabios"].map(|folder| usr.join(folder)))
                .filter(|folder| folder.exists())
                .collect(),
        })
    }
}
