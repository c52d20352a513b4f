//! The source files and functions that instructions come from, as the object's DWARF says.

use std::collections::{BTreeMap, BTreeSet};

use addr2line::{
    Context, FunctionName,
    gimli::{self, Dwarf, EndianSlice, LittleEndian},
};
use anyhow::{Context as _, Result};
use object::{File, Object as _, ObjectSection as _, ObjectSymbol as _, RelocationFlags, RelocationTarget, Section};

use super::object::{INSTRUCTION, places};

/// Address of the first instruction; none is at 0, which DWARF's readers may take for one that was left out.
const START: u64 = 1 << 16;

/// For each place of a program's instructions, the first that `wanted` makes something of a file and a function (by its name
/// as the linker knows it): from the innermost function that is inlined there outwards.
pub(crate) fn sources<T>(
    object: &[u8],
    places: &BTreeSet<usize>,
    wanted: impl Fn(&str, &str) -> Option<T>,
) -> Result<BTreeMap<usize, T>> {
    let file = File::parse(object)?;
    let sections = sections(&file)?;
    let dwarf = Dwarf::load(|id| {
        let bytes = sections.get(id.name()).map_or(&[][..], Vec::as_slice);
        Ok::<_, gimli::Error>(EndianSlice::new(bytes, LittleEndian))
    })?;
    let context = Context::from_dwarf(dwarf)?;
    let mut found = BTreeMap::new();
    for &place in places {
        let mut frames = context.find_frames(START + (place * INSTRUCTION) as u64).skip_all_loads()?;
        while let Some(frame) = frames.next()? {
            let function = frame.function.as_ref().map(FunctionName::raw_name).transpose()?;
            let function = function.as_deref().unwrap_or_default();
            if let Some(this) = frame.location.and_then(|location| wanted(location.file?, function)) {
                found.insert(place, this);
                break;
            }
        }
    }
    Ok(found)
}

/// The sections of debugging information, linked.
fn sections(file: &File<'_>) -> Result<BTreeMap<String, Vec<u8>>> {
    let places = places(file)?;
    let debug = file.sections().filter(|section| section.name().is_ok_and(|name| name.starts_with(".debug_")));
    let linked = |section: Section<'_, '_>| {
        let mut bytes = section.data()?.to_vec();
        for (offset, relocation) in section.relocations() {
            let RelocationTarget::Symbol(symbol) = relocation.target() else { continue };
            let symbol = file.symbol_by_index(symbol)?;
            let code = symbol.section_index().and_then(|index| places.get(&index.0));
            let value = code.map_or(0, |place| START + (place * INSTRUCTION) as u64) + symbol.address();
            // The addend stands where the sum goes.
            let size = match relocation.flags() {
                RelocationFlags::Elf { r_type: object::elf::R_BPF_64_64 | ABSOLUTE_64 } => 8,
                _ => 4,
            };
            let start = usize::try_from(offset)?;
            let field = bytes.get_mut(start..start + size).context("a relocation past the section's end")?;
            let mut number = [0; 8];
            number[..size].copy_from_slice(field);
            let sum = u64::from_le_bytes(number).wrapping_add(value);
            field.copy_from_slice(&sum.to_le_bytes()[..size]);
        }
        Ok((section.name()?.to_owned(), bytes))
    };
    debug.map(linked).collect()
}

/// `R_BPF_64_ABS64`.
const ABSOLUTE_64: u32 = 2;
