// Files that are either complete or absent: written under a temporary name, fsynced, renamed.
#pragma once
#include <string>

namespace pf2lora {

// The name that `path` has while it is being written, in the same directory. Whoever writes there holds the
// output directory's lock, so one name is enough and a killed run leaves at most this one file behind.
std::string partial_path(const std::string& path);

// Fsyncs the finished `partial_path(path)`, renames it to `path` and fsyncs the directory. Whatever stood at
// `path` before stays whole until the rename. Throws Error.
void commit_partial(const std::string& path);

// Removes `partial_path(path)` where it stands; never throws.
void discard_partial(const std::string& path) noexcept;

// Writes a text file by the same steps. Throws Error.
void write_text_atomically(const std::string& path, const std::string& text);

// Fsyncs a directory, so that names made or removed in it survive a crash of the machine. Throws Error.
void sync_directory(const std::string& directory);

// Fsyncs the directory that holds `path`. Throws Error.
void sync_parent_directory(const std::string& path);

}  // namespace pf2lora
