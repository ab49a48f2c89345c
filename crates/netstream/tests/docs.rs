//! What the pages show is what the files say.

use std::fs;
use std::path::Path;

fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn the_readme_shows_the_examples_as_they_are() {
    let readme = read("README.md");
    for example in ["hello_server", "hello_client"] {
        let source = read(&format!("crates/netstream/examples/{example}.rs"));
        assert!(readme.contains(&format!("```rust\n{source}```")), "README.md shows another {example}.rs");
    }
}

#[test]
fn the_readme_gives_the_test_command_that_ci_runs() {
    let command = "cargo test --workspace";
    assert!(read("README.md").contains(&format!("    {command} ")));
    assert!(read(".ci/run").contains(&format!("step {command}\n")));
}

/// `file::name` and, after it, further `name`s of the same file; `*` stands for any rest.
#[test]
fn every_test_that_the_lessons_name_exists() {
    let page = read("docs/lessons.md");
    let mut checked = 0;
    for row in page.lines().filter(|line| line.starts_with("| ")) {
        let mut file = None;
        for quoted in row.split('`').skip(1).step_by(2) {
            let name = match quoted.split_once("::") {
                Some((of, name)) if of.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') => {
                    file = Some(read(&format!("crates/netstream/tests/{of}.rs")));
                    name
                }
                None if quoted.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_' || byte == b'*') => quoted,
                _ => continue,
            };
            let (Some(source), prefix) = (&file, name.trim_end_matches('*')) else { continue };
            assert!(source.contains(&format!("fn {prefix}")), "docs/lessons.md names {quoted}, which is not there");
            checked += 1;
        }
    }
    assert!(checked > 50, "only {checked} names were found");
}
