//! Has the crate compiled again when a migration is added: `sqlx::migrate!` cannot ask for it.

fn main() {
    println!("cargo:rerun-if-changed=../migrations/engine");
}
