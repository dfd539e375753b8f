//! Sets the SONAME and builds the variadic functions, which stable Rust can't define, from C.

fn main() {
    println!("cargo:rerun-if-changed=src/variadic.c");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,librdkafka.so.1");
    cc::Build::new()
        .file("src/variadic.c")
        .warnings(true)
        .extra_warnings(true)
        .cargo_metadata(false)
        .compile("ottla_variadic");
    println!(
        "cargo:rustc-link-search=native={}",
        std::env::var("OUT_DIR").expect("cargo sets OUT_DIR")
    );
    // Without `export-symbols` the linker's version script would hide them in the shared library.
    println!("cargo:rustc-link-lib=static:+whole-archive,+export-symbols=ottla_variadic");
}
