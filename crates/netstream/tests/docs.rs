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
