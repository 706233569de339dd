//! The dependency direction of ARCHITECTURE.md, read from the manifests.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Which crates of the workspace each crate may depend on, and who may use a fenced library.
const ALLOWED: [(&str, &[&str]); 10] = [
    ("forecastd-core", &[]),
    ("forecastd-exchange", &["forecastd-core"]),
    ("forecastd-history", &["forecastd-core"]),
    ("forecastd-wire", &["forecastd-core"]),
    ("forecastd-chain", &["forecastd-core"]),
    ("forecastd-store", &["forecastd-core"]),
    ("forecastd-models", &["forecastd-core"]),
    (
        "forecastd-devnet",
        &[
            "forecastd-core",
            "forecastd-exchange",
            "forecastd-history",
            "forecastd-wire",
            "forecastd-chain",
        ],
    ),
    (
        "forecastd-actors",
        &[
            "forecastd-core",
            "forecastd-exchange",
            "forecastd-history",
            "forecastd-wire",
            "forecastd-chain",
            "forecastd-store",
            "forecastd-models",
        ],
    ),
    (
        "forecastd",
        &[
            "forecastd-core",
            "forecastd-exchange",
            "forecastd-wire",
            "forecastd-chain",
            "forecastd-store",
            "forecastd-models",
            "forecastd-actors",
            "forecastd-history",
            "forecastd-devnet",
        ],
    ),
];

/// Heavy libraries and the only crates that may name them.
const FENCES: [(&str, &[&str]); 9] = [
    ("actix", &["forecastd-actors", "forecastd"]),
    ("sled", &["forecastd-store"]),
    ("parquet", &["forecastd-history"]),
    ("burn", &["forecastd-models"]),
    ("subxt", &["forecastd-chain", "forecastd-devnet"]),
    ("subxt-rpcs", &["forecastd-chain", "forecastd-devnet"]),
    ("tokio-tungstenite", &["forecastd-exchange", "forecastd-devnet"]),
    ("jsonrpsee", &["forecastd-devnet"]),
    ("schnorrkel", &["forecastd-wire", "forecastd-chain", "forecastd-devnet"]),
];

struct Manifest {
    name: String,
    dependencies: BTreeSet<String>,
}

fn manifests() -> Vec<Manifest> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &Path| {
        let text = std::fs::read_to_string(path).unwrap();
        text.parse::<toml_edit::DocumentMut>().unwrap()
    };
    let workspace = read(&root.join("Cargo.toml"));
    let members = workspace["workspace"]["members"].as_array().unwrap();
    members
        .iter()
        .map(|member| {
            let manifest = read(&root.join(member.as_str().unwrap()).join("Cargo.toml"));
            let dependencies = manifest["dependencies"].as_table().unwrap();
            Manifest {
                name: manifest["package"]["name"].as_str().unwrap().to_owned(),
                dependencies: dependencies.iter().map(|(name, _)| name.to_owned()).collect(),
            }
        })
        .collect()
}

#[test]
fn crates_only_depend_downwards() {
    let allowed: BTreeMap<_, _> = ALLOWED.into_iter().collect();
    let manifests = manifests();
    assert_eq!(manifests.len(), allowed.len(), "a crate is missing in the table of levels");
    for manifest in manifests {
        let may_use = allowed[manifest.name.as_str()];
        for dependency in manifest.dependencies.iter().filter(|d| d.starts_with("forecastd")) {
            assert!(
                may_use.contains(&dependency.as_str()),
                "{} must not depend on {dependency}",
                manifest.name
            );
        }
    }
}

#[test]
fn heavy_libraries_stay_behind_their_fences() {
    for manifest in manifests() {
        for (library, users) in FENCES {
            let uses = manifest.dependencies.contains(library);
            assert!(
                !uses || users.contains(&manifest.name.as_str()),
                "{} must not depend on {library}; only {users:?} may",
                manifest.name
            );
        }
    }
}

#[test]
fn the_core_knows_no_runtime_and_no_clock() {
    let core = manifests().into_iter().find(|m| m.name == "forecastd-core").unwrap();
    for forbidden in ["tokio", "actix", "actix-web", "reqwest", "tracing", "async-trait", "rand"] {
        assert!(!core.dependencies.contains(forbidden), "core must not depend on {forbidden}");
    }
}

#[test]
fn the_simulators_are_compiled_only_behind_their_feature() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let root: toml_edit::DocumentMut = std::fs::read_to_string(root).unwrap().parse().unwrap();
    assert_eq!(root["dependencies"]["forecastd-devnet"]["optional"].as_bool(), Some(true));
}
