//! The broker process: admits clusters, checks who owns what, hands records to who may see them.
