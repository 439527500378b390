//! `pyralog demo` shows everything and leaves nothing.

use super::process::{Scratch, pyralog};

#[test]
fn the_demo_runs_and_cleans_up() {
    let scratch = Scratch::new("demo");
    let output = pyralog().arg("demo").env("TMPDIR", &scratch.0).output().unwrap();
    let (told, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    for part in ["Unus pro omnibus", "physical_plan", "Tokyo", "ROLLBACK"] {
        assert!(told.contains(part), "{part} in\n{told}");
    }
    assert_eq!(std::fs::read_dir(&scratch.0).unwrap().count(), 0);
}
