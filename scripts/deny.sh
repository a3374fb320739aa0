#!/usr/bin/env bash
# Checks licences, advisories, duplicates and sources of all dependencies with cargo-deny, without a network.
#
# A dependency that came after the advisories were copied is an error: `scripts/advisories/update.py` copies them anew.
# cargo-deny wants a clone of the advisory database; it gets one with the advisories in scripts/advisories.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo deny --version >/dev/null 2>&1 || cargo install cargo-deny --locked --quiet
new=$(sed -n 's/^name = "\(.*\)"$/\1/p' Cargo.lock | LC_ALL=C sort -u | LC_ALL=C comm -23 - scripts/advisories/covered)
[ -z "$new" ] || { echo "error: no advisories were looked up for: $new" >&2; exit 1; }
# The name that cargo-deny gives the clone of https://github.com/rustsec/advisory-db.
clone=.cache/advisories/advisory-db-3157b0e258782691
rm -rf .cache/advisories
mkdir -p "$clone"
cp -r scripts/advisories/crates "$clone/"
git -C "$clone" init --quiet
git -C "$clone" add --all
git -C "$clone" -c user.name=deny -c user.email=deny@localhost commit --quiet --message "$(cat scripts/advisories/SOURCE)"
touch "$clone/.git/FETCH_HEAD"
cargo fetch --locked --quiet
cargo deny --offline check
