#!/bin/sh
# clone REPOSITORY BRANCH: brings the folder `repository` to the newest commit of a branch, whatever it held before.
# What git does not track stays: the checkout of scheduled runs with the checkpoints of a killed one.
# For a private repository GIT_USERNAME and GIT_PASSWORD are in the environment; they are written nowhere.
set -eu
answer='!f() { [ "$1" = get ] && printf "username=%s\npassword=%s\n" "$GIT_USERNAME" "$GIT_PASSWORD"; }; f'
# One clone at a time. The lock ends with the last process of a clone, also of one that was killed: git's own locks, which
# are found after it, are of no process.
exec 9>repository.lock
flock -w 600 9 || { echo "another clone runs" >&2; exit 1; }
if [ -d repository/.git ]; then
  find repository/.git -type f -name '*.lock' -delete
  # A power cut leaves objects empty, which git then believes to have; those of a fetch that it cut are of no commit yet.
  find repository/.git -path '*/objects/*' -type f -size 0 -delete
  # `git init` does not mend what is damaged, such as an empty HEAD; 1 is for old forms of whole objects.
  GIT_CEILING_DIRECTORIES="$PWD" git -C repository fsck --no-dangling --no-progress >/dev/null 2>&1 || [ $? -eq 1 ] \
    || rm -rf repository/.git
fi
git init --quiet repository
cd repository
git config gc.autoDetach false # else one that tidies up lives on and holds the lock
git remote remove origin 2>/dev/null || true
git remote add origin "$1"
if [ -n "${GIT_PASSWORD:-}" ]; then
  git -c credential.helper= -c credential.helper="$answer" fetch --quiet origin "$2"
else
  git fetch --quiet origin "$2"
fi
git checkout --quiet --force -B "$2" FETCH_HEAD
