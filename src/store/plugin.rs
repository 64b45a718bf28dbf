//! What the engine's plugins ([`super::ids`], [`super::records`]) have in common: one file a segment, filled from one field.

use tantivy::directory::{OwnedBytes, WritePtr};
use tantivy::index::{SegmentComponent, SegmentReader};
use tantivy::indexer::DocIdMapping;
use tantivy::indexer::doc_id_mapping::MappingType;
use tantivy::schema::document::ErasedDocument;
use tantivy::schema::{Field, Value};
use tantivy::{PluginMergeContext, Segment, TantivyDocument, TantivyError};

/// What a document brings for a plugin; nothing, if it has nothing for it.
pub(super) fn value(document: &dyn ErasedDocument, field: Field) -> &[u8] {
    let document = document.as_any().downcast_ref::<TantivyDocument>();
    document.and_then(|d| d.get_first(field)).and_then(|v| v.as_custom()).unwrap_or_default()
}

/// A plugin's file of a new segment.
pub(super) fn create(segment: &Segment, extension: &str) -> tantivy::Result<WritePtr> {
    Ok(segment.open_write(SegmentComponent::Custom(extension.into()))?)
}

/// What `read` makes of a plugin's file of a segment; an error where that is nothing.
pub(super) fn open<T>(segment: &SegmentReader, extension: &str, read: impl FnOnce(OwnedBytes) -> Option<T>) -> tantivy::Result<T> {
    let bytes = segment.open_read(SegmentComponent::Custom(extension.into()))?.read_bytes()?;
    let damaged = || TantivyError::InternalError(format!("the {extension} of segment {} cannot be read", segment.segment_id()));
    read(bytes).ok_or_else(damaged)
}

/// An error if a merge puts documents into another order: it never does, as nothing asks for it.
pub(super) fn in_order(ctx: &PluginMergeContext) -> tantivy::Result<()> {
    if ctx.doc_id_mapping.mapping_type() == MappingType::Shuffled { Err(shuffled()) } else { Ok(()) }
}

/// As [`in_order`], where a segment is written.
pub(super) fn same_order(order: Option<&DocIdMapping>) -> tantivy::Result<()> {
    if order.is_some() { Err(shuffled()) } else { Ok(()) }
}

fn shuffled() -> TantivyError {
    TantivyError::InternalError("documents of a segment in another order than they came".into())
}
