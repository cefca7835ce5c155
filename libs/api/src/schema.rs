//! Parts of schemas that the types alone don't tell.

use schemars::{Schema, SchemaGenerator, json_schema};

/// Conditions as the Kubernetes API conventions have them: a map by `type`, with the limits of `metav1.Condition`.
pub(crate) fn conditions(_: &mut SchemaGenerator) -> Schema {
    let name = "([a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])";
    json_schema!({
        "description": "How the object stands, one entry per type.",
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["lastTransitionTime", "message", "reason", "status", "type"],
            "properties": {
                "type": {"type": "string", "description": "What it is about.", "maxLength": 316, "pattern": format!("^{name}$")},
                "status": {"type": "string", "description": "Whether it holds.", "enum": ["True", "False", "Unknown"]},
                "reason": {
                    "type": "string",
                    "description": "Why, for programs.",
                    "minLength": 1,
                    "maxLength": 1024,
                    "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
                },
                "message": {"type": "string", "description": "Why, for people.", "maxLength": 32_768},
                "lastTransitionTime": {
                    "type": "string",
                    "description": "When status last changed.",
                    "format": "date-time",
                },
                "observedGeneration": {
                    "type": "integer",
                    "description": "The metadata.generation that it was found at.",
                    "format": "int64",
                    "minimum": 0,
                },
            },
        },
    })
}
