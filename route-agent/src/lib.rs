//! The route agent process: routes, NAT exemption, VIPs and DNS of one node.
