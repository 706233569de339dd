//! Hotkey files of five generations of SDKs, and files that must be refused.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use forecastd_chain::{Keypair, WalletError};
use forecastd_core::Signer;
use serde_json::{Value, json};
use tempfile::TempDir;

fn folder() -> PathBuf {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors");
    let vectors = std::env::var_os("FORECASTD_VECTORS");
    vectors.map_or_else(|| PathBuf::from(default), PathBuf::from).join("wallets")
}

/// Writes a file as a wallet does: readable by its owner only. A checkout has other modes.
fn write(dir: &TempDir, content: &[u8], mode: u32) -> PathBuf {
    let path = dir.path().join("hotkey");
    drop(fs::remove_file(&path));
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

fn read(content: &[u8]) -> Result<Keypair, WalletError> {
    let dir = tempfile::tempdir().unwrap();
    Keypair::from_file(&write(&dir, content, 0o600))
}

fn hotkeys() -> Vec<(Value, Value)> {
    let index = fs::read_to_string(folder().join("index.json")).unwrap();
    let index: Value = serde_json::from_str(&index).unwrap();
    let mut hotkeys = Vec::new();
    for wallet in index["wallets"].as_array().unwrap() {
        for hotkey in wallet["hotkeys"].as_array().unwrap() {
            hotkeys.push((hotkey.clone(), wallet["crypto_type"].clone()));
        }
    }
    assert!(hotkeys.len() > 10, "{} hotkeys", hotkeys.len());
    hotkeys
}

fn content(hotkey: &Value) -> Vec<u8> {
    fs::read(folder().join(hotkey["file"].as_str().unwrap())).unwrap()
}

#[test]
fn every_wallet_folder_is_in_the_index() {
    let index = fs::read_to_string(folder().join("index.json")).unwrap();
    for entry in fs::read_dir(folder()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let known = name == "index.json" || index.contains(&format!("\"wallet\": \"{name}\""));
        assert!(known || index.contains(&format!("\"wallet\":\"{name}\"")), "{name}");
    }
}

#[test]
fn hotkey_files_of_every_writer_give_the_right_key_or_the_right_refusal() {
    for (hotkey, crypto_type) in hotkeys() {
        let file = hotkey["file"].as_str().unwrap();
        let result = read(&content(&hotkey));
        match (hotkey["encryption"].as_str(), crypto_type.as_str().unwrap()) {
            (Some("NaCl"), _) => {
                assert!(
                    matches!(result, Err(WalletError::Encrypted { kind: "NaCl", .. })),
                    "{file}"
                );
            }
            (None, "ed25519") => {
                let refused = matches!(result, Err(WalletError::CryptoType { crypto_type: 0, .. }));
                assert!(refused, "{file}");
            }
            (None, "sr25519") => {
                assert_eq!(result.unwrap().hotkey().to_ss58(), hotkey["ss58"], "{file}");
            }
            other => panic!("{file}: unknown kind {other:?}"),
        }
    }
}

#[test]
fn mnemonics_uris_and_seeds_give_the_same_keys_as_their_files() {
    let mut compared = 0;
    for (hotkey, crypto_type) in hotkeys() {
        if crypto_type != "sr25519" {
            continue;
        }
        let keypair = if let Some(phrase) = hotkey["mnemonic"].as_str() {
            Keypair::from_mnemonic(phrase)
        } else if let Some(uri) = hotkey["uri"].as_str() {
            Keypair::from_uri(uri)
        } else {
            let seed = hotkey["seed_hex"].as_str().unwrap();
            let seed = seed.strip_prefix("0x").unwrap_or(seed);
            Keypair::from_seed(hex::decode(seed).unwrap().try_into().unwrap())
        };
        assert_eq!(keypair.unwrap().hotkey().to_ss58(), hotkey["ss58"]);
        compared += 1;
    }
    assert!(compared > 8, "{compared}");
}

#[test]
fn each_secret_alone_is_enough() {
    let (hotkey, _) =
        hotkeys().into_iter().find(|(hotkey, _)| hotkey["file"] == "w411/hotkeys/hot1").unwrap();
    let whole: Value = serde_json::from_slice(&content(&hotkey)).unwrap();
    for secret in ["secretSeed", "privateKey", "secretPhrase"] {
        let file = json!({ secret: whole[secret], "ss58Address": whole["ss58Address"] });
        let keypair = read(file.to_string().as_bytes()).unwrap();
        assert_eq!(keypair.hotkey().to_ss58(), hotkey["ss58"], "{secret}");
    }
    for stated in ["publicKey", "accountId", "ss58Address"] {
        let alice = match stated {
            "ss58Address" => "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY",
            _ => "0xd43593c715fdd31c61141abd04a99fd6822c8558854ccde39a5684e7a56da27d",
        };
        let mut file = whole.clone();
        file[stated] = alice.into();
        let error = read(file.to_string().as_bytes()).unwrap_err();
        assert!(matches!(error, WalletError::Mismatch { .. }), "{stated}: {error}");
        assert!(error.to_string().contains(alice), "{error}");
    }
}

#[test]
fn public_files_and_garbage_are_refused_without_repeating_a_secret() {
    let public = fs::read(folder().join("w411/hotkeys/hot1pub.txt")).unwrap();
    let error = read(&public).unwrap_err().to_string();
    assert!(error.contains("no secret"), "{error}");

    let seed = "0x16babba0852bd65cbd914110fe43a1c52e1e363796bfffa0ad7af7f338b984f";
    let short = json!({ "secretSeed": seed }).to_string();
    let wrong_type = json!({ "secretSeed": 7, "secretPhrase": seed }).to_string();
    let phrase = json!({ "secretPhrase": "secret skull joke" }).to_string();
    let cut = format!("{{\"secretSeed\":\"{seed}");
    for text in [&short, &wrong_type, &phrase, &cut, "", "[]", "null"] {
        let error = read(text.as_bytes()).unwrap_err();
        assert!(matches!(error, WalletError::Format { .. }), "{text}: {error}");
        let message = format!("{error} {error:?}");
        assert!(!message.contains("16babba") && !message.contains("skull"), "{message}");
    }
    assert!(matches!(read(&vec![b' '; 70_000]), Err(WalletError::Format { .. })));
}

#[test]
fn files_that_others_may_read_or_change_are_refused_with_their_mode() {
    let (hotkey, _) = hotkeys().into_iter().next().unwrap();
    let dir = tempfile::tempdir().unwrap();
    for mode in [0o644, 0o640, 0o604, 0o620, 0o601] {
        let path = write(&dir, &content(&hotkey), mode);
        let error = Keypair::from_file(&path).unwrap_err();
        assert_eq!(error.exit_code(), Some(77), "{mode:o}");
        assert!(error.to_string().contains(&format!("{mode:04o}")), "{error}");
    }
    for mode in [0o600, 0o400, 0o700] {
        Keypair::from_file(&write(&dir, &content(&hotkey), mode)).unwrap();
    }
}

#[test]
fn folders_and_absent_files_are_told_apart_from_bad_ones() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Keypair::from_file(dir.path()), Err(WalletError::Format { .. })));
    let absent = Keypair::from_file(Path::new("no/such/hotkey")).unwrap_err();
    assert!(matches!(&absent, WalletError::Missing { .. }));
    assert!(absent.to_string().contains("no/such/hotkey"), "{absent}");
}
