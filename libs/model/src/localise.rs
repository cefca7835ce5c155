//! A merged import as one cluster can serve it.
