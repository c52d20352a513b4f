//! `edge-ctl bundle`: what support asks for, in one tar file, without the configuration's secrets.

mod items;
mod secrets;
mod system;

use std::{
    fmt::Write as _,
    fs::OpenOptions,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use self::{items::Items, secrets::Secrets};
use super::{
    args::{BundleArgs, Dirs},
    failure::Failure,
    print_line,
};
use crate::control::events::unix_ms;

/// Bytes of one file, and of all of them together.
const MOST: usize = 4 << 20;
const MOST_OF_ALL: usize = 64 << 20;

/// A file of the bundle, or why there is none.
#[derive(Debug)]
struct Item {
    name: String,
    content: Result<String, String>,
}

pub(super) fn bundle(dirs: &Dirs, args: &BundleArgs) -> Result<(), Failure> {
    let at = humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + std::time::Duration::from_millis(unix_ms()));
    let name = format!("edge-bundle-{}-{}", host_name(), at.to_string().replace(':', ""));
    let file = args.file.clone().unwrap_or_else(|| PathBuf::from(format!("{name}.tar")));
    let (items, secrets) = Items::gather(dirs)?;
    let packed = pack(&name, items, &secrets, unix_ms() / 1000);
    let failed = |source| Failure::Unwritten { file: file.clone(), source };
    if file == Path::new("-") {
        return packed.and_then(|bytes| io::stdout().write_all(&bytes)).map_err(failed);
    }
    let packed = packed.map_err(failed)?;
    // Never over another file, and never for others to read.
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file);
    opened.and_then(|mut opened| opened.write_all(&packed)).map_err(failed)?;
    print_line(&format!("{}: {} KiB, without the secrets of the configuration", file.display(), packed.len() / 1024));
    Ok(())
}

fn host_name() -> String {
    let name = nix::sys::utsname::uname()
        .map_or_else(|_| "host".into(), |name| name.nodename().to_string_lossy().into_owned());
    name.chars().map(|char| if char.is_ascii_alphanumeric() || char == '-' { char } else { '_' }).collect()
}

/// A tar file with the items in a directory `name`, and a list of them.
fn pack(name: &str, items: Vec<Item>, secrets: &Secrets, seconds: u64) -> io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut add = |file: &str, content: &str| {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o600);
        header.set_mtime(seconds);
        header.set_size(content.len() as u64);
        archive.append_data(&mut header, format!("{name}/{file}"), content.as_bytes())
    };
    let (mut list, mut all) = (String::new(), 0);
    for Item { name, content } in items {
        let content = if all > MOST_OF_ALL { Err("the bundle is full".to_owned()) } else { content };
        let (name, content) = match content {
            Ok(content) => (name, cut(secrets.hide(content))),
            Err(why) => (format!("{name}.missing"), secrets.hide(format!("this is missing: {why}\n"))),
        };
        all += content.len();
        let _ = writeln!(list, "{:>9}  {name}", content.len());
        add(&name, &content)?;
    }
    add("list.txt", &list)?;
    archive.into_inner()
}

/// The text, cut to the length of one file.
fn cut(mut text: String) -> String {
    if text.len() > MOST {
        text.truncate(text.floor_char_boundary(MOST));
        text += "\n(the rest is cut off)\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, io::Read as _};

    use super::*;

    #[test]
    fn a_bundle_has_a_file_for_each_item_and_for_each_that_is_missing() {
        let mut secrets = Secrets::default();
        secrets.out_of("hash_key = \"000102030405060708090a0b0c0d0e0f\"").unwrap();
        let item = |name: &str, content: Result<&str, &str>| Item {
            name: name.to_owned(),
            content: content.map(str::to_owned).map_err(str::to_owned),
        };
        let long = "é".repeat(MOST);
        let items = vec![
            item("status.json", Ok("{\"key\": \"000102030405060708090a0b0c0d0e0f\"}")),
            item("journal.txt", Err("there is no journalctl on this host")),
            item("long.txt", Ok(&long)),
        ];
        let packed = pack("edge", items, &secrets, 1).unwrap();
        assert!(!packed.windows(10).any(|window| window == b"0001020304"));
        let mut files = BTreeMap::new();
        for entry in tar::Archive::new(&packed[..]).entries().unwrap() {
            let mut entry = entry.unwrap();
            assert_eq!(entry.header().mode().unwrap(), 0o600);
            let (name, mut text) = (entry.path().unwrap().display().to_string(), String::new());
            entry.read_to_string(&mut text).unwrap();
            files.insert(name, text);
        }
        assert_eq!(files["edge/status.json"], "{\"key\": \"(hidden)\"}");
        assert_eq!(files["edge/journal.txt.missing"], "this is missing: there is no journalctl on this host\n");
        assert!(
            files["edge/long.txt"].ends_with("(the rest is cut off)\n") && files["edge/long.txt"].len() < MOST + 99
        );
        assert_eq!(files["edge/list.txt"].lines().count(), 3);
    }
}
