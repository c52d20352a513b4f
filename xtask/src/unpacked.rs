//! Programs of Debian packages that are unpacked, not installed: installing them would start servers, now and at every
//! boot, or remove other packages. Their binaries run from any folder, given their libraries.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    cargo::{self, output},
    packages,
    step::step,
};

/// Makes sure that `packages` are unpacked in the folder `name` of the project's tools, and that they contain `file`;
/// returns the file's path.
pub fn ensure(name: &str, packages: &[&str], file: &str) -> Result<PathBuf> {
    let path = cargo::tools().join(name).join(file);
    if !path.exists() {
        fetch(&cargo::tools().join(name), &packages.iter().map(|package| (*package).to_owned()).collect::<Vec<_>>())?;
        ensure!(path.exists(), "the packages {} have no {file}", packages.join(" "));
    }
    Ok(path)
}

/// As [`ensure`], with all dependencies that the system lacks; or uses the system's own program. Returns a program that
/// runs `file` with its libraries.
pub fn ensure_whole(name: &str, packages: &[&str], file: &str) -> Result<PathBuf> {
    let dir = cargo::tools().join(name);
    let wrapper = dir.join("run").join(Path::new(file).file_name().unwrap_or_default());
    let wrapped = || -> Result<bool> {
        let places = [dir.join(file), Path::new("/").join(file)];
        let Some(program) = places.iter().find(|path| path.exists()) else { return Ok(false) };
        wrap(&dir, program, &wrapper)?;
        Ok(starts(&wrapper))
    };
    if starts(&wrapper) || wrapped()? {
        return Ok(wrapper);
    }
    // Unpacked programs may depend on installed packages that were removed since.
    match fs::remove_dir_all(&dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let needed = || {
        let mut simulation = cargo::command("apt-get");
        let simulated = output(simulation.args(SIMULATION).args(packages))?;
        let words = simulated.lines().filter_map(|line| line.strip_prefix("Inst ")?.split_whitespace().next());
        Some(words.map(str::to_owned).collect::<Vec<_>>())
    };
    let list = if let Some(list) = needed() {
        list
    } else {
        packages::update()?;
        needed().with_context(|| format!("apt-get cannot install {}", packages.join(" ")))?
    };
    fetch(&dir, &list)?;
    ensure!(wrapped()?, "{file} of {} does not start", packages.join(" "));
    Ok(wrapper)
}

/// Arguments by which apt lists the packages that it would install.
const SIMULATION: [&str; 4] = ["-qq", "install", "-s", "--no-install-recommends"];

/// A script that runs `program` with the libraries in `dir`.
fn wrap(dir: &Path, program: &Path, wrapper: &Path) -> Result<()> {
    let libraries = format!("{0}/usr/lib/x86_64-linux-gnu:{0}/lib/x86_64-linux-gnu", dir.display());
    let script = format!("#!/bin/sh\nLD_LIBRARY_PATH={libraries} exec {} \"$@\"\n", program.display());
    fs::create_dir_all(wrapper.parent().context("a wrapper lies in a folder")?)?;
    fs::write(wrapper, script)?;
    fs::set_permissions(wrapper, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// Whether a program can be started: its file and its libraries exist.
fn starts(program: &Path) -> bool {
    let run = Command::new(program).arg("--version").output();
    // The dynamic linker and the shell exit with these codes when something is missing.
    run.is_ok_and(|run| !matches!(run.status.code(), Some(126 | 127)))
}

/// Downloads `packages` and unpacks them into `dir`.
fn fetch(dir: &Path, packages: &[String]) -> Result<()> {
    step(&format!("fetching {}", packages.join(" ")), || {
        // All or nothing: an interrupted download is started again.
        let (downloads, draft) = (dir.with_extension("debs"), dir.with_extension("new"));
        for leftover in [&downloads, &draft, &dir.to_owned()] {
            match fs::remove_dir_all(leftover) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        fs::create_dir_all(&downloads)?;
        let fetch = || {
            cargo::run(
                packages::apt()
                    .args(["-qq", "-o", "APT::Sandbox::User=root", "download"])
                    .args(packages)
                    .current_dir(&downloads),
            )
        };
        if fetch().is_err() {
            packages::update()?;
            fetch()?;
        }
        for package in fs::read_dir(&downloads)? {
            cargo::run(cargo::command("dpkg").arg("-x").arg(package?.path()).arg(&draft))?;
        }
        fs::remove_dir_all(&downloads)?;
        // Links with absolute targets would point outside the folder.
        let relink = r#"to=$(readlink "$1"); if [ -e ".$to" ]; then ln -sfn "$0$to" "$1"; fi"#;
        let mut find = Command::new("find");
        find.args([".", "-type", "l", "-lname", "/*", "-exec", "sh", "-c", relink]).arg(dir).args(["{}", ";"]);
        cargo::run(find.current_dir(&draft))?;
        fs::rename(draft, dir)?;
        Ok(())
    })
}
