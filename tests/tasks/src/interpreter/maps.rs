//! The maps of a program: arrays, whose entries lie at their index, and hash maps, whose entries lie anywhere.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail, ensure};

use super::{
    memory::{MAPS, Memory, address, region},
    object::Definition,
};

/// Types of maps, by the kernel's numbers.
const HASH: u32 = 1;
const ARRAY: u32 = 2;
const PROGRAM_ARRAY: u32 = 3;
const PER_CPU_ARRAY: u32 = 6;
const LRU_HASH: u32 = 9;
const LPM_TRIE: u32 = 11;
/// Flags of an update: any key is accepted. The other flags require an existing, or an absent, key.
const ANY: u64 = 0;
/// Errors of an update that is not made.
const TOO_BIG: i64 = -7;
const ABSENT: i64 = -2;

/// The initial content of a map.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// The entries of an array, each a multiple of eight bytes; of a per-CPU array, this CPU's part.
    Array(Vec<u8>),
    /// The entries of a hash map, and its capacity.
    Hash { entries: BTreeMap<Vec<u8>, Vec<u8>>, room: usize },
}

/// All maps; their values are in the memory, in a region for each map.
#[derive(Debug)]
pub(super) struct Maps(Vec<Map>);

#[derive(Debug)]
struct Map {
    name: String,
    kind: Shape,
}

#[derive(Debug)]
enum Shape {
    /// Length of an entry in bytes.
    Array {
        entry: u64,
    },
    Hash(Hash),
}

#[derive(Debug)]
struct Hash {
    /// Lengths of a key and of a value, bytes.
    key: usize,
    value: usize,
    /// Whether the kernel evicts an entry of its choice when there is no room for a new one.
    makes_room: bool,
    /// Indexes of the values.
    entries: BTreeMap<Vec<u8>, usize>,
    free: BTreeSet<usize>,
}

impl Maps {
    /// The maps of a program, with `content` by name; a map without content is empty, and has no room.
    pub(super) fn new(
        defined: &[Definition],
        mut content: BTreeMap<&str, Content>,
        memory: &mut Memory,
    ) -> Result<Self> {
        let one = |(number, definition): (u64, &Definition)| {
            let content = content.remove(definition.name.as_str());
            lay_out(definition, content, number, memory).with_context(|| definition.name.clone())
        };
        Ok(Self((MAPS..).zip(defined).map(one).collect::<Result<_>>()?))
    }

    pub(super) fn array<'a>(&self, name: &str, memory: &'a Memory) -> &'a [u8] {
        self.named(name).map_or(&[], |(number, _)| memory.all(number))
    }

    pub(super) fn hash(&self, name: &str, memory: &Memory) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let Some((number, Map { kind: Shape::Hash(hash), .. })) = self.named(name) else { return BTreeMap::new() };
        let value = |place: usize| memory.all(number)[place * hash.stride()..][..hash.value].to_vec();
        hash.entries.iter().map(|(key, place)| (key.clone(), value(*place))).collect()
    }

    pub(super) fn is_array(&self, map: u64) -> Result<bool> {
        Ok(matches!(self.at(map)?.kind, Shape::Array { .. }))
    }

    /// Address of the value of the key at `key`; 0 if there is none.
    pub(super) fn look_up(&self, memory: &mut Memory, map: u64, key: u64) -> Result<u64> {
        let number = region(map);
        let at = match &self.at(map)?.kind {
            Shape::Array { entry } => {
                Some(entry * memory.load(key, 4)?).filter(|at| *at < memory.all(number).len() as u64)
            }
            Shape::Hash(hash) => hash.find(memory.at(key, hash.key)?).map(|place| (place * hash.stride()) as u64),
        };
        Ok(at.map_or(0, |at| address(number, at)))
    }

    /// Sets the value of the key at `key` to the value at `value`.
    pub(super) fn update(&mut self, memory: &mut Memory, map: u64, key: u64, value: u64, flags: u64) -> Result<u64> {
        let number = region(map);
        let hash = self.hash_at(map)?;
        ensure!(flags == ANY, "unknown flags {flags:#x}");
        let (key, value) = (memory.at(key, hash.key)?.to_vec(), memory.at(value, hash.value)?.to_vec());
        let place = match hash.find(&key).or_else(|| hash.free.pop_first()) {
            Some(place) => place,
            None if hash.makes_room => bail!("a full map, of which the kernel would choose what goes"),
            None => return Ok(TOO_BIG.cast_unsigned()),
        };
        hash.entries.insert(key, place);
        let at = address(number, (place * hash.stride()) as u64);
        memory.at(at, value.len())?.copy_from_slice(&value);
        Ok(0)
    }

    /// Deletes the key at `key`.
    pub(super) fn delete(&mut self, memory: &mut Memory, map: u64, key: u64) -> Result<u64> {
        let hash = self.hash_at(map)?;
        let Some(place) = hash.entries.remove(memory.at(key, hash.key)?) else { return Ok(ABSENT.cast_unsigned()) };
        hash.free.insert(place);
        Ok(0)
    }

    fn named(&self, name: &str) -> Option<(u64, &Map)> {
        (MAPS..).zip(&self.0).find(|(_, map)| map.name == name)
    }

    fn at(&self, map: u64) -> Result<&Map> {
        let place = region(map).checked_sub(MAPS).and_then(|place| usize::try_from(place).ok());
        place.and_then(|place| self.0.get(place)).context("a look-up in what is no map")
    }

    fn hash_at(&mut self, map: u64) -> Result<&mut Hash> {
        let place = usize::try_from(region(map).saturating_sub(MAPS))?;
        match self.0.get_mut(place) {
            Some(Map { kind: Shape::Hash(hash), .. }) => Ok(hash),
            _ => bail!("a change of what is no hash map"),
        }
    }
}

impl Hash {
    fn find(&self, key: &[u8]) -> Option<usize> {
        self.entries.get(key).copied()
    }

    /// Distance between two values in bytes.
    const fn stride(&self) -> usize {
        self.value.next_multiple_of(8)
    }
}

/// Creates a map, and puts its values into the memory.
fn lay_out(definition: &Definition, content: Option<Content>, number: u64, memory: &mut Memory) -> Result<Map> {
    let Definition { name, kind, key, value } = definition;
    let stride = value.next_multiple_of(8);
    let kind = match (*kind, content) {
        (ARRAY | PER_CPU_ARRAY, Some(Content::Array(bytes))) => {
            ensure!(bytes.len().is_multiple_of(stride), "entries of {stride} bytes can't be {} bytes", bytes.len());
            memory.put(number, bytes);
            Shape::Array { entry: stride as u64 }
        }
        // Program arrays are empty.
        (ARRAY | PER_CPU_ARRAY | PROGRAM_ARRAY, None) => Shape::Array { entry: stride as u64 },
        // A trie without content finds nothing, like a hash map.
        (kind @ (HASH | LRU_HASH), content @ (Some(Content::Hash { .. }) | None))
        | (kind @ LPM_TRIE, content @ None) => {
            let (entries, room) = match content {
                Some(Content::Hash { entries, room }) => (entries, room),
                _ => (BTreeMap::new(), 0),
            };
            ensure!(entries.len() <= room, "{} entries where there is room for {room}", entries.len());
            let mut bytes = vec![0; room * stride];
            let mut places = BTreeMap::new();
            for (place, (this, content)) in entries.into_iter().enumerate() {
                ensure!((this.len(), content.len()) == (*key, *value), "an entry of another size");
                bytes[place * stride..][..*value].copy_from_slice(&content);
                places.insert(this, place);
            }
            memory.put(number, bytes);
            let free = (places.len()..room).collect();
            Shape::Hash(Hash { key: *key, value: *value, makes_room: kind == LRU_HASH, entries: places, free })
        }
        (kind, _) => bail!("unknown kind {kind}, or another one's content"),
    };
    Ok(Map { name: name.clone(), kind })
}

#[cfg(test)]
mod tests {
    use super::{super::memory::STACK, *};

    const KEY: u64 = address(STACK, 0);
    const VALUE: u64 = address(STACK, 8);

    fn maps(kind: u32, content: Content) -> (Maps, Memory, u64) {
        let mut memory = Memory::default();
        memory.put(STACK, vec![0; 16]);
        let definition = Definition { name: "MAP".to_owned(), kind, key: 4, value: 6 };
        let maps = Maps::new(&[definition], BTreeMap::from([("MAP", content)]), &mut memory).expect("a map");
        (maps, memory, address(MAPS, 0))
    }

    #[test]
    fn a_hash_map_has_what_was_put_in_as_long_as_there_is_room() {
        let (mut maps, mut memory, map) = maps(HASH, Content::Hash { entries: BTreeMap::new(), room: 2 });
        let mut put = |memory: &mut Memory, key: u64, value: u64| {
            memory.store(KEY, 4, key).expect("room");
            memory.store(VALUE, 8, value).expect("room");
            maps.update(memory, map, KEY, VALUE, ANY).expect("a map").cast_signed()
        };
        assert_eq!([(1, 11), (2, 22), (3, 33), (2, 23)].map(|(k, v)| put(&mut memory, k, v)), [0, 0, TOO_BIG, 0]);
        let value = |maps: &Maps, memory: &mut Memory, key| {
            memory.store(KEY, 4, key).expect("room");
            match maps.look_up(memory, map, KEY).expect("a map") {
                0 => None,
                at => Some(memory.load(at, 6).expect("a value")),
            }
        };
        assert_eq!([1, 2, 3].map(|key| value(&maps, &mut memory, key)), [Some(11), Some(23), None]);
        memory.store(KEY, 4, 1).expect("room");
        let gone = [0, 1].map(|_| maps.delete(&mut memory, map, KEY).expect("a map").cast_signed());
        assert_eq!(gone, [0, ABSENT]);
        assert_eq!([1, 2].map(|key| value(&maps, &mut memory, key)), [None, Some(23)]);
        assert_eq!(maps.hash("MAP", &memory), BTreeMap::from([(vec![2, 0, 0, 0], vec![23, 0, 0, 0, 0, 0])]));
    }

    #[test]
    fn what_the_kernel_would_choose_is_refused() {
        let (mut maps, mut memory, map) = maps(LRU_HASH, Content::Hash { entries: BTreeMap::new(), room: 1 });
        assert_eq!(maps.update(&mut memory, map, KEY, VALUE, ANY).expect("room"), 0);
        memory.store(KEY, 4, 1).expect("room");
        assert!(maps.update(&mut memory, map, KEY, VALUE, ANY).is_err());
    }

    #[test]
    fn an_array_ends() {
        let (maps, mut memory, map) = maps(ARRAY, Content::Array(vec![0; 16]));
        let mut at = |place| {
            memory.store(KEY, 4, place).expect("room");
            maps.look_up(&mut memory, map, KEY).expect("a map")
        };
        assert_eq!([0, 1, 2].map(&mut at), [map, map + 8, 0]);
    }
}
