//! Links a program of an object file.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use object::{
    File, Object as _, ObjectSection as _, ObjectSymbol as _, Relocation, RelocationTarget, SectionIndex, SectionKind,
    Symbol, SymbolKind,
};

use super::memory::{DATA, MAPS, address};

/// Length of an instruction in bytes; a 64-bit load takes two.
const INSTRUCTION: usize = 8;
/// Call of a helper; of a function if the source register is [`IN_PROGRAM`].
pub(super) const CALL: u8 = 0x85;
pub(super) const LOAD_64: u8 = 0x18;
pub(super) const IN_PROGRAM: usize = 1;
/// Section of the maps' definitions.
const MAP_SECTION: &str = "maps";

/// An instruction of RFC 9669. The immediate of a 64-bit load has all bits, and that of a function call is the
/// function's index.
#[derive(Clone, Copy, Debug)]
pub(super) struct Instruction {
    pub(super) code: u8,
    pub(super) destination: usize,
    pub(super) source: usize,
    pub(super) offset: i64,
    pub(super) immediate: i64,
}

/// A linked program: the instructions of all sections, concatenated.
#[derive(Debug)]
pub(crate) struct Program {
    pub(super) instructions: Vec<Instruction>,
    /// Index of the first instruction.
    pub(super) entry: usize,
    /// The sections of constants.
    pub(super) data: Vec<Vec<u8>>,
    /// The maps that the program uses.
    pub(super) maps: Vec<Definition>,
}

/// Definition of a map in the object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Definition {
    pub(super) name: String,
    /// Type of the map, by the kernel's numbers.
    pub(super) kind: u32,
    /// Lengths of a key and of a value, bytes.
    pub(super) key: usize,
    pub(super) value: usize,
}

/// Index of each section's first instruction in a [`Program`], by the section's number.
fn places(file: &File<'_>) -> Result<BTreeMap<usize, usize>> {
    let mut end = 0;
    let code = file.sections().filter(|section| section.kind() == SectionKind::Text);
    let placed = code.map(|section| {
        let start = end;
        end += usize::try_from(section.size())? / INSTRUCTION;
        Ok((section.index().0, start))
    });
    placed.collect()
}

impl Program {
    /// Links the program `name` of an object file.
    pub(crate) fn link(object: &[u8], name: &str) -> Result<Self> {
        let file = File::parse(object)?;
        let places = places(&file)?;
        let mut linker = Linker { file: &file, places: &places, maps: Vec::new(), data: Vec::new() };
        let mut instructions = Vec::new();
        for index in places.keys() {
            instructions.extend(linker.section(SectionIndex(*index))?);
        }
        let is_entry = |symbol: &Symbol<'_, '_>| symbol.kind() == SymbolKind::Text && symbol.name() == Ok(name);
        let entry = file.symbols().find(is_entry).with_context(|| format!("no program `{name}`"))?;
        let entry = linker.function(&entry)?.context("a program outside all code")?;
        let data = linker.data.into_iter().map(|(_, bytes)| bytes).collect();
        Ok(Self { instructions, entry, data, maps: linker.maps })
    }
}

struct Linker<'a> {
    file: &'a File<'a>,
    places: &'a BTreeMap<usize, usize>,
    maps: Vec<Definition>,
    data: Vec<(SectionIndex, Vec<u8>)>,
}

impl Linker<'_> {
    /// The instructions of a section.
    fn section(&mut self, index: SectionIndex) -> Result<Vec<Instruction>> {
        let section = self.file.section_by_index(index)?;
        let mut instructions = decode(section.data()?);
        let start = self.places[&index.0];
        for (place, instruction) in instructions.iter_mut().enumerate() {
            if instruction.code == CALL && instruction.source == IN_PROGRAM {
                // Relative to the next instruction.
                instruction.immediate += i64::try_from(start + place + 1)?;
            }
        }
        for (offset, relocation) in section.relocations() {
            let place = usize::try_from(offset)? / INSTRUCTION;
            let instruction = instructions.get_mut(place).context("a relocation past the section's end")?;
            let call = instruction.immediate - i64::try_from(start + place)?;
            instruction.immediate = match instruction.code {
                CALL => self.called(&relocation, call)?,
                LOAD_64 => self.referred(&relocation, instruction.immediate)?.cast_signed(),
                code => bail!("a relocation of instruction {code:#x}"),
            };
        }
        Ok(instructions)
    }

    fn symbol(&self, relocation: &Relocation) -> Result<Symbol<'_, '_>> {
        match relocation.target() {
            RelocationTarget::Symbol(index) => Ok(self.file.symbol_by_index(index)?),
            target => bail!("a relocation to {target:?}"),
        }
    }

    /// Index of a symbol's instruction, if the symbol is code.
    fn function(&self, symbol: &Symbol<'_, '_>) -> Result<Option<usize>> {
        let Some(start) = symbol.section_index().and_then(|index| self.places.get(&index.0)) else { return Ok(None) };
        Ok(Some(start + usize::try_from(symbol.address())? / INSTRUCTION))
    }

    /// Index of a called function. A section's symbol stands for the section's start; the call contains the distance,
    /// less one.
    fn called(&self, relocation: &Relocation, from_start: i64) -> Result<i64> {
        let symbol = self.symbol(relocation)?;
        let place = i64::try_from(self.function(&symbol)?.context("a call of what is no code")?)?;
        Ok(if symbol.kind() == SymbolKind::Section { place + from_start } else { place })
    }

    /// Address of a map, or of a constant `offset` bytes after a symbol.
    fn referred(&mut self, relocation: &Relocation, offset: i64) -> Result<u64> {
        let symbol = self.symbol(relocation)?;
        let (name, start) = (symbol.name()?.to_owned(), symbol.address());
        let index = symbol.section_index().with_context(|| format!("`{name}` is nowhere"))?;
        let section = self.file.section_by_index(index)?;
        if section.name()? == MAP_SECTION {
            let words = section.data()?.get(usize::try_from(start)?..).context("a map without a definition")?;
            let (words, _) = words.as_chunks().0.split_first_chunk().context("a map without a whole definition")?;
            let [kind, key, value] = words.map(u32::from_le_bytes);
            let (key, value) = (usize::try_from(key)?, usize::try_from(value)?);
            let new = Definition { name: name.clone(), kind, key, value };
            let place = position_or_push(&mut self.maps, |map| map.name == name, || new);
            return Ok(address(MAPS + place, 0));
        }
        let bytes = section.data()?.to_vec();
        let place = position_or_push(&mut self.data, |(known, _)| *known == index, || (index, bytes));
        Ok(address(DATA + place, start.wrapping_add_signed(offset)))
    }
}

fn position_or_push<T>(all: &mut Vec<T>, is: impl FnMut(&T) -> bool, new: impl FnOnce() -> T) -> u64 {
    let place = all.iter().position(is).unwrap_or_else(|| {
        all.push(new());
        all.len() - 1
    });
    place as u64
}

fn decode(code: &[u8]) -> Vec<Instruction> {
    let (chunks, _) = code.as_chunks::<INSTRUCTION>();
    let mut instructions: Vec<_> = chunks.iter().copied().map(one).collect();
    for place in 1..instructions.len() {
        if instructions[place - 1].code == LOAD_64 {
            let high = instructions[place].immediate << 32;
            let low = &mut instructions[place - 1].immediate;
            *low = high | (*low & 0xffff_ffff);
        }
    }
    instructions
}

fn one([code, registers, o0, o1, i0, i1, i2, i3]: [u8; INSTRUCTION]) -> Instruction {
    Instruction {
        code,
        destination: usize::from(registers & 0xf),
        source: usize::from(registers >> 4),
        offset: i16::from_le_bytes([o0, o1]).into(),
        immediate: i32::from_le_bytes([i0, i1, i2, i3]).into(),
    }
}
