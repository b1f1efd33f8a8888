//! Link arguments for a Node.js addon.

fn main() {
    napi_build::setup();
    // Node unloads an addon when the last worker that loaded it ends, and our thread would run on in
    // memory that is gone. On macOS the loader keeps images with thread-local destructors by itself.
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
}
