/** What a run says about itself: one record, written as JSON and as a self-contained page. */
package org.sentei.engine.report;
