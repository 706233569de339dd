//! What is accepted, how it arrives, and the help.

use clap::CommandFactory as _;

use super::*;

fn parsed(line: &str) -> Cli {
    Cli::try_parse_from(line.split(' ')).unwrap()
}

fn refused(line: &str) -> String {
    Cli::try_parse_from(line.split(' ')).unwrap_err().to_string()
}

/// The help of a command and of all below it, at a fixed width.
fn collect_help(command: &mut clap::Command, path: &str, text: &mut String) {
    let path = format!("{path}{}", command.get_name());
    let help = command.render_long_help();
    *text = format!("{text}===== {path} =====\n{help}\n");
    for inner in command.get_subcommands_mut().filter(|inner| inner.get_name() != "help") {
        collect_help(inner, &format!("{path} "), text);
    }
}

#[test]
fn the_help_of_every_command_is_as_written_down() {
    let mut command = Cli::command().term_width(100).version("0.0.0");
    command.build();
    let mut text = String::new();
    collect_help(&mut command, "", &mut text);
    insta::assert_snapshot!("help", text);
}

#[test]
fn every_command_has_an_example() {
    fn check(command: &clap::Command, count: &mut usize) {
        let has_inner = command.get_subcommands().next().is_some();
        if !has_inner && command.get_name() != "help" {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example"), "{}", command.get_name());
            assert!(
                help.contains(&format!("{} ", command.get_name())) || help.contains("forecastd")
            );
            *count += 1;
        }
        command.get_subcommands().for_each(|inner| check(inner, count));
    }
    Cli::command().debug_assert();
    let mut count = 0;
    check(&Cli::command(), &mut count);
    assert!(count >= 12, "{count}");
}

#[test]
fn the_examples_of_the_help_are_valid_command_lines() {
    fn collect(command: &clap::Command, examples: &mut Vec<String>) {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let help = help.replace("\\\n", " ");
        let lines = help.lines().map(str::trim).filter(|line| line.starts_with("forecastd "));
        examples.extend(lines.map(str::to_owned));
        command.get_subcommands().for_each(|inner| collect(inner, examples));
    }
    let mut examples = Vec::new();
    collect(&Cli::command(), &mut examples);
    assert!(examples.len() >= 20, "{examples:?}");
    for example in examples {
        // The explanation stands behind at least three blanks or a redirection.
        let line = example.split(" > ").next().unwrap();
        let words = match line.split_once("   ") {
            Some((words, _)) if !words.contains("model ") => words,
            _ => line,
        };
        let result = Cli::try_parse_from(words.split_whitespace());
        assert!(result.is_ok(), "{words}: {}", result.unwrap_err());
    }
}

#[test]
fn options_arrive_in_their_units() {
    let cli = parsed("forecastd dev --for 1h30m --speed 1200 --seed 7 --json --data-dir d");
    let Command::Dev(dev) = cli.command else { panic!("{cli:?}") };
    assert_eq!(dev.run_for, Some(Duration::from_mins(90)));
    assert_eq!((dev.speed, dev.seed, dev.json), (Some(1200.0), Some(7), true));
    assert_eq!(cli.global.data_dir.as_deref(), Some(Path::new("d")));

    let cli = parsed("forecastd model train --data a.csv --name n --from 2024-01-01");
    let Command::Model(ModelCommand::Train(train)) = cli.command else { panic!("{cli:?}") };
    assert_eq!(train.from.unwrap().ms, 1_704_067_200_000);
    let cli = parsed("forecastd --config x.toml run both");
    assert_eq!(cli.global.config_path(), Path::new("x.toml"));
    assert_eq!(cli.command, Command::Run(RunArgs { role: Role::Both, json: false }));
}

#[test]
fn wrong_use_says_what_is_allowed() {
    for (line, text) in [
        ("forecastd dev --for 10", "must be a duration above zero"),
        ("forecastd dev --for 0s", "must be a duration above zero"),
        ("forecastd dev --speed nan", "must be a number in 1..100000"),
        ("forecastd dev --speed 0.5", "must be a number in 1..100000"),
        ("forecastd run nobody", "miner, validator, both"),
        ("forecastd rounds replay", "<ID>"),
        ("forecastd rounds replay a --all", "cannot be used with"),
        ("forecastd rounds replay ../status", "hexadecimal digits"),
        ("forecastd rounds show ../status", "hexadecimal digits"),
        ("forecastd model train --data a --name b --epochs 1001", "1..=1000"),
        ("forecastd check-config --online --offline", "cannot be used with"),
        ("forecastd logs --level loud", "error, warn, info, debug, trace"),
        ("forecastd scores --stream ../x", "1 to 64 letters"),
        ("forecastd model train --data a --name b --to tomorrow", "must be a date"),
        ("forecastd statsu", "status"),
    ] {
        let found = refused(line);
        assert!(found.contains(text), "{line}: {found}");
    }
}

#[test]
fn help_ends_with_0_and_wrong_use_with_64() {
    let parse = |line: &str| super::parse(line.split(' ').map(OsString::from));
    assert_eq!(parse("forecastd --version"), Err(Exit::Done));
    assert_eq!(parse("forecastd dev --help"), Err(Exit::Done));
    assert_eq!(parse("forecastd dev --nonsense"), Err(Exit::Usage));
    assert!(parse("forecastd status").is_ok());
}

#[test]
fn a_named_file_must_exist_and_the_data_directory_lies_on_top() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    let mut global = GlobalArgs { config: Some(path.clone()), data_dir: None };
    assert!(global.load(MissingFile::UseDefaults).is_err());
    std::fs::write(&path, "[log]\nlevel = \"warn\"\n").unwrap();
    global.data_dir = Some(dir.path().join("data"));
    let loaded = global.load(MissingFile::Refuse).unwrap();
    assert_eq!(loaded.config.log.level, LogLevel::Warn);
    assert_eq!(loaded.config.store.path, dir.path().join("data"));
    assert_eq!(loaded.config.log_dir(), dir.path().join("data/log"));
    assert_eq!(loaded.path, path);

    std::fs::write(
        &path,
        "[[stream]]\nid = \"OTHER\"\nquorum = 1\n[[feed]]\nname = \"binance\"\n\
         stream = \"OTHER\"\nexchange = \"binance\"\n",
    )
    .unwrap();
    assert!(global.load_for(Role::Validator).is_ok());
    let found = global.load_for(Role::Both).unwrap_err();
    assert_eq!((found.len(), found.errors[0].line), (1, 2));
}
