//! Join codes as users give them.

use std::path::Path;

use netstream::driver::OsRandom;
use netstream::transport::netcode::{JoinCode, JoinCodeError};

use crate::failure::Failure;

/// The text of a generated code, or a passphrase. The text itself never appears in an error.
pub(crate) fn join_code(text: &str) -> Result<JoinCode, Failure> {
    match text.parse::<JoinCode>() {
        Ok(code) => Ok(code),
        // It has the form of a code and its checksum is wrong: nobody chooses such a passphrase.
        Err(error @ JoinCodeError::Mistyped) => Err(Failure::usage(error)),
        Err(_) => JoinCode::from_passphrase(text)
            .map_err(|error| Failure::usage(format!("{error}; give that or all of the code that the server printed"))),
    }
}

/// The same from the first line of a file.
pub(crate) fn join_code_file(path: &Path) -> Result<JoinCode, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::failed(format!("cannot read the join code from {}: {error}; write it there first", path.display()))
    })?;
    join_code(text.lines().next().unwrap_or_default())
}

/// A new code that nobody can guess.
pub(crate) fn new_join_code() -> JoinCode {
    JoinCode::random(&mut OsRandom)
}

/// Whether two passwords are equal; how long it takes says nothing about where they differ.
pub(crate) fn same_password(one: &[u8], other: &[u8]) -> bool {
    let differences = one.iter().zip(other).fold(0, |all, (a, b)| all | (a ^ b));
    one.len() == other.len() && std::hint::black_box(differences) == 0
}

#[cfg(test)]
mod tests {
    use netstream::transport::SeededRandom;

    use super::*;

    #[test]
    fn a_code_is_read_as_a_code_and_anything_else_as_a_passphrase() {
        let code = new_join_code();
        assert_eq!(join_code(&code.to_text().to_lowercase()).unwrap(), code);
        let phrase = join_code("correct horse battery staple").unwrap();
        assert_eq!(phrase, JoinCode::from_passphrase("correct horse battery staple").unwrap());
    }

    #[test]
    fn a_mistyped_code_is_not_taken_for_a_passphrase() {
        let text = JoinCode::random(&mut SeededRandom::new(1)).to_text().to_string();
        let (first, rest) = text.split_at(1);
        let typed = format!("{}{rest}", if first == "7" { "8" } else { "7" });
        assert!(join_code(&typed).unwrap_err().to_string().contains("mistyped"));
        assert!(join_code("short").unwrap_err().to_string().contains("8 characters"));
    }

    #[test]
    fn passwords_are_compared_whole() {
        assert!(same_password(b"secret", b"secret"));
        assert!(
            !same_password(b"secret", b"secreT") && !same_password(b"secret", b"secre") && !same_password(b"", b"s")
        );
    }
}
