//! A host in memory, for tests of filters.
