"""Outside implementations, in an environment of their own: oracles of tests and competitors of benchmarks, never
dependencies of the package (some are GPL, some pin old versions)."""
