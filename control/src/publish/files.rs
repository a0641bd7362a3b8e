//! Resource files: validated and applied together with the stored objects. Called by `app`.

use std::sync::Arc;

use weir_resources::{Compiled, Diagnostic, SourceFile};

use crate::publish::diagnostics::to_change_error;
use crate::publish::error::{ChangeError, FilesError};
use crate::publish::publisher::Publisher;
use crate::publish::shrink::ShrinkPolicy;
use crate::publish::state::WriterState;
use crate::snapshot_cache::EncodedSnapshot;

impl Publisher {
    /// Compiles and validates files together with the stored objects. Publishes nothing, because the files may be in
    /// the middle of an edit.
    ///
    /// # Errors
    /// Every error of the files, with file and line.
    pub fn validate_files(&self, files: &[SourceFile]) -> Result<Arc<Compiled>, Vec<Diagnostic>> {
        let mut writer = self.writer.lock();
        let (compiled, _) = self.build_files(&mut writer, files)?;
        Ok(Arc::new(compiled))
    }

    /// Publishes files together with the stored objects, unless the resulting snapshot is equivalent to the current
    /// one.
    ///
    /// # Errors
    /// Every error of the files, with file and line, or the files take away most of the mesh. The current snapshot stays.
    pub fn apply_files(&self, files: &[SourceFile], shrink: ShrinkPolicy) -> Result<(), FilesError> {
        let mut writer = self.writer.lock();
        let (compiled, encoded) = self.build_files(&mut writer, files).map_err(FilesError::Invalid)?;
        let before = self.snapshot_cache.current();
        if let Err(reason) = shrink.check(&before.snapshot, &compiled.snapshot) {
            self.evict_unused();
            return Err(FilesError::Shrinks(reason));
        }
        if before.generation > 0 && encoded.is_equivalent(&before) {
            files.clone_into(&mut writer.files);
            self.refresh_read_view(&writer);
            return Ok(());
        }
        files.clone_into(&mut writer.files);
        writer.file_changes += 1;
        self.publish(&mut writer, &compiled, encoded);
        Ok(())
    }

    fn build_files(
        &self,
        writer: &mut WriterState,
        files: &[SourceFile],
    ) -> Result<(Compiled, EncodedSnapshot), Vec<Diagnostic>> {
        let state = writer.state.clone();
        let compiled = writer.compile(&state, files, &self.bundles.catalog())?;
        // Objects that were stored before this process started were validated when they were applied.
        let is_first = self.snapshot_cache.current().generation == 0;
        let prepared = self.build_validated_except(&compiled, |id| is_first && state.objects.contains_key(id));
        if prepared.is_err() {
            self.evict_unused();
        }
        let encoded = prepared.map_err(|error| match to_change_error(&compiled, error) {
            ChangeError::Invalid(diagnostics) => diagnostics,
            other => vec![Diagnostic::without_position(other.to_string(), "")],
        })?;
        Ok((compiled, encoded))
    }
}

#[cfg(test)]
mod tests {
    use weir_model::ClusterName;

    use super::*;
    use crate::bundle_store::{BundleStore, TrustedSigners};
    use crate::filter_validation::FilterValidator;
    use crate::module_store::ModuleStore;
    use crate::publish::publisher::PublisherDeps;
    use crate::snapshot_cache::SnapshotCache;
    use crate::store::ResourceStore;
    use crate::workload_registry::WorkloadRegistry;

    #[test]
    fn apply_files_publishes_only_changed_configuration() {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(ResourceStore::in_folder(folder.path()).unwrap());
        let bundles = Arc::new(BundleStore::open(Arc::clone(&store), TrustedSigners::default()).unwrap());
        let validator = FilterValidator::new(folder.path().join("cache"), weir_loader::limits::DEFAULT_COMPILE_TIMEOUT);
        let modules = Arc::new(ModuleStore::new(folder.path().to_owned()));
        let snapshot_cache =
            SnapshotCache::new(modules, ([127, 0, 0, 1], 1).into(), ClusterName::new("modules").unwrap());
        let registry = Arc::new(WorkloadRegistry::open(Arc::clone(&store)).unwrap());
        let publisher = Publisher::new(PublisherDeps {
            store,
            snapshot_cache: Arc::clone(&snapshot_cache),
            bundles,
            validator,
            registry,
        })
        .unwrap();
        let service = |port: u16| {
            let text = format!(
                "apiVersion: weir.dev/v1alpha1\nkind: ServiceEntry\nmetadata: {{name: a}}\nspec: {{ports: [{{name: http, \
                 port: 80, protocol: HTTP}}], endpoints: [{{address: \"127.0.0.1:{port}\"}}]}}\n"
            );
            [SourceFile { path: "a.yaml".into(), text: text.into() }]
        };
        publisher.validate_files(&service(1)).unwrap();
        assert_eq!(snapshot_cache.current().generation, 0, "validation publishes nothing");
        publisher.apply_files(&service(1), ShrinkPolicy::Reject).unwrap();
        publisher.apply_files(&service(1), ShrinkPolicy::Reject).unwrap();
        assert_eq!(snapshot_cache.current().generation, 1);
        publisher.validate_files(&[]).unwrap();
        assert_eq!(
            snapshot_cache.current().snapshot.clusters.len(),
            1,
            "validation of removed files publishes nothing"
        );
        publisher.apply_files(&service(2), ShrinkPolicy::Reject).unwrap();
        assert_eq!(snapshot_cache.current().generation, 2);
    }
}
