//! Rebuilds the crate when a migration changes (the macro that embeds them does not notice), and
//! leaves a hash of their text so that tests know which template database is theirs.

use std::{
    env, fs,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    path::{Path, PathBuf},
};

fn main() -> io::Result<()> {
    let folder = Path::new("../../migrations");
    println!("cargo::rerun-if-changed={}", folder.display());
    println!("cargo::rerun-if-changed=build.rs");
    let mut files = Vec::new();
    for migration in fs::read_dir(folder)? {
        let migration = migration?.path();
        if migration.is_dir() {
            for file in fs::read_dir(migration)? {
                files.push(file?.path());
            }
        }
    }
    files.sort();
    let mut hasher = DefaultHasher::new();
    for file in files {
        file.hash(&mut hasher);
        fs::read(file)?.hash(&mut hasher);
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    fs::write(out.join("migrations.hash"), hasher.finish().to_le_bytes())
}
