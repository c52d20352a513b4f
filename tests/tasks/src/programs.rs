//! The built eBPF programs and their sizes.

use anyhow::{Context as _, Result};
use aya::{
    Ebpf, EbpfLoader,
    programs::{Program, Xdp},
};
use edge_common::abi::program;
use serde::{Deserialize, Serialize};
use xtask::cargo;

/// Size of a program.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Size {
    pub(crate) program: String,
    /// Instructions after the kernel's translation.
    pub(crate) translated: u32,
    /// Bytes of machine code.
    pub(crate) jited: u32,
    /// Instructions that the verifier processed.
    pub(crate) verified: u32,
}

/// Content of `target/bpf/NAME`.
pub(crate) fn object(name: &str) -> Result<Vec<u8>> {
    let path = cargo::root().join("target/bpf").join(name);
    std::fs::read(&path).with_context(|| format!("could not read {}", path.display()))
}

/// An XDP program of a loaded object.
pub(crate) fn xdp<'a>(object: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    Ok(object.program_mut(name).with_context(|| format!("no program `{name}`"))?.try_into()?)
}

/// Loads the shipped programs; returns their sizes.
pub(crate) fn sizes() -> Result<Vec<Size>> {
    let mut edge = EbpfLoader::new().load(&object("edge")?)?;
    for name in SHIPPED {
        load(&mut edge, name)?;
    }
    sizes_of(&mut edge)
}

/// The programs that are shipped.
pub(crate) const SHIPPED: [&str; 4] = [program::EDGE, program::NAT, program::DECAP, program::MSS];

/// Loads a program into the kernel.
pub(crate) fn load(object: &mut Ebpf, name: &str) -> Result<()> {
    let refused = || format!("the kernel refuses `{name}`");
    match object.program_mut(name).with_context(|| format!("no program `{name}`"))? {
        Program::SchedClassifier(tc) => tc.load().with_context(refused),
        other => <&mut Xdp>::try_from(other)?.load().with_context(refused),
    }
}

/// Sizes of the shipped programs, which must be loaded.
pub(crate) fn sizes_of(edge: &mut Ebpf) -> Result<Vec<Size>> {
    SHIPPED.into_iter().map(|name| size(edge, name)).collect()
}

/// Size of a program, which must be loaded.
pub(crate) fn size(object: &mut Ebpf, name: &str) -> Result<Size> {
    let info = object.program(name).with_context(|| format!("no program `{name}`"))?.info()?;
    let unknown = || format!("this kernel does not say how large `{name}` is");
    Ok(Size {
        program: name.to_owned(),
        translated: info.size_translated().with_context(unknown)? / 8,
        jited: info.size_jitted(),
        verified: info.verified_instruction_count().with_context(unknown)?,
    })
}
