<?php
// Managed by socle. Brings the tables to the release that is current.
$_SERVER['HTTP_HOST']      = {{ domain }};
$_SERVER['SERVER_PROTOCOL'] = 'HTTP/1.1';
$_SERVER['REQUEST_METHOD'] = 'GET';
$_SERVER['REQUEST_URI']    = '/';

define( 'WP_INSTALLING', true );
define( 'WP_HTTP_BLOCK_EXTERNAL', true );

require {{ current ~ "/wp-load.php" }};
require_once ABSPATH . 'wp-admin/includes/upgrade.php';

wp_upgrade();
wp_cache_flush();
$has = (int) get_option( 'db_version' );
if ( $has !== (int) $wp_db_version ) {
	fwrite( STDERR, "the tables are at $has, the release needs $wp_db_version\n" );
	exit( 1 );
}
echo 'upgraded to ', $wp_version, ', database ', $has, "\n";
