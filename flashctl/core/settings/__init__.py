"""Where settings come from: profiles, files, and the forms that people write values in."""
